"""The forms that data has: folders, tables, arrays, records, archives."""
