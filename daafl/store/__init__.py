"""What outlives a process: run folders and node stores."""
