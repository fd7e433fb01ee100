"""A plan, cut into pure shard tasks; the dataset that they make; checking it and making it again."""
