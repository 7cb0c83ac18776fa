"""What tests share: databases, clocks, people, servers. Started and stopped by the tests themselves."""
