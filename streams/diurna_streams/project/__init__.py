"""From the log to the tables: Faust for the live events, a bulk path for what lies behind."""
