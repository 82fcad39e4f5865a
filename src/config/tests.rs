//! To be replaced by the configuration's tests.
