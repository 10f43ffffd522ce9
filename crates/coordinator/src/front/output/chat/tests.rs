//! Tests of [`ChatOutput`].
