"""What is learned: the head's shape, the loss, the scores and the form of a prediction."""
