"""The sections of the report: each turns measurements into sentences, tables and charts."""
