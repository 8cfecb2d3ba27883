"""Training: synthetic scans from label maps, losses, and a resumable loop."""
