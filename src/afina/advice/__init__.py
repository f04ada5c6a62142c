"""What a person is told before and while a technique is chosen: evidence, costs and choices with their reasons."""
