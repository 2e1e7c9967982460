"""Files on disks: `durable.py` writes what stays after a power cut, `regular.py` reads what is no pipe or device."""
