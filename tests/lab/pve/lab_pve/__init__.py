"""The lab's Proxmox VE: the fake of its API, with real containers and ports behind it, and faults on demand."""
