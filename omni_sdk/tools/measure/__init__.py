"""What `bench`, `tune` and `report` are made of: contenders, their processes, the schedule, the comparison."""
