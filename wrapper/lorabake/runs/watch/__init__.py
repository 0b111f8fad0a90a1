"""What goes wrong while a run lives: stalls, losses, disks, changed inputs."""
