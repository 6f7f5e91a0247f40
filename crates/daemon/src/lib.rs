//! The firewall process: pump, apply, records, API
