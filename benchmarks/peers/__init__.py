"""What a user would otherwise pick, in its plainest form."""
