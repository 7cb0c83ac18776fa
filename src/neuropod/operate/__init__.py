"""The machine's own commands: `up`, `down`, `gateway`, `doctor`, `admin`.

They talk to a running server by its 0600 socket and open the installation themselves only when none runs. The launcher
(`neuropod.__main__`) comes here by the first word, so the user's commands never load any of this.
"""
