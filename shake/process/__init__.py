"""Child processes: started, watched, sent messages. Nothing here depends on tables."""
