"""What the report measures: functions of arrays, without files, sentences or charts."""
