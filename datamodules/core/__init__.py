"""What all data modules share."""
