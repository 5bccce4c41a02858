"""Child processes: started, watched, spoken to. This layer knows no table."""
