"""What a run leaves behind: records, leaderboard, JUnit properties, tables."""
