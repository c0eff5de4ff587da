"""What happens around training: logging, saving, stopping, showing, drawing."""
