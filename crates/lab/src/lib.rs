//! Network namespaces for tests, benchmarks and the demonstration: made, used, gone
