"""The bundle, which is fitted once and served many times: its parts, its fitting and its files."""
