"""What every room uses: objects as tables, schedules, values per chain, the door of public functions, words."""
