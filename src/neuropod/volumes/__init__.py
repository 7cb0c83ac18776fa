"""A user's persistent disks, rows of their own; pods attach one."""
