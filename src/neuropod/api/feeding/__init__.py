"""The event stream: one reader per server (`feed`), and who follows it (`followers`, `stream`)."""
