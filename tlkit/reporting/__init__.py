"""What a person looks at: drawings and tables."""
