"""What is done to folders: every CT series and volume standardized, resumed, checked and reported."""
