"""What makes files of the repository from the program itself."""
