"""The machine's own commands: up, down, gateway, doctor, admin. A running server is asked by its 0600 socket."""
