//! Places for end-to-end tests.
