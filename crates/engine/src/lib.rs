//! The reference interpreter of a plan: packets in, verdicts with typed reasons out
