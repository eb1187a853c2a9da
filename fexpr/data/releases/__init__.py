"""One file per release: its loader, and what reads the release's own tables and folders."""
