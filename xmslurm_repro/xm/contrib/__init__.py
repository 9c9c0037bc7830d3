"""What is known of particular sites."""
