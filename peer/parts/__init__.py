"""The parts of a task's state: how each is held, mixed with a neighbour's, and published."""
