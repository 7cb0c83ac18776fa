"""The gateway: what carries `https://<host>` to a pod's port, and its gate, the check of who may pass (DESIGN §5).

Made by server and by operate's `neuropod gateway`; see app.py for how the parts fit together. It knows pods only
as routes, asks accounts who a visitor is, and reaches ports only through Runtime.connect.
"""
