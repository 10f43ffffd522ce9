//! A back end that differs from another in some ops: to watch what the model computes, or to get
//! something wrong on purpose.

use std::sync::Arc;

use kernels::{
    Attend, Backend, Combine, Embed, Experts, Linear, Packing, RmsNorm, Rotate, Route, StoreKv,
};

/// What differs. Each op is handed on unless it is overridden.
pub(crate) trait Twist: Send + Sync {
    fn embed(&self, inner: &dyn Backend, args: Embed<'_>) {
        inner.embed(args);
    }
    fn rms_norm(&self, inner: &dyn Backend, args: RmsNorm<'_>) {
        inner.rms_norm(args);
    }
    fn linear(&self, inner: &dyn Backend, args: Linear<'_>) {
        inner.linear(args);
    }
    fn rotate(&self, inner: &dyn Backend, args: Rotate<'_>) {
        inner.rotate(args);
    }
    fn store_kv(&self, inner: &dyn Backend, args: StoreKv<'_>) {
        inner.store_kv(args);
    }
    fn attend(&self, inner: &dyn Backend, args: Attend<'_>) {
        inner.attend(args);
    }
    fn route(&self, inner: &dyn Backend, args: Route<'_>) {
        inner.route(args);
    }
    fn run_experts(&self, inner: &dyn Backend, args: Experts<'_>) {
        inner.run_experts(args);
    }
    fn combine(&self, inner: &dyn Backend, args: Combine<'_>) {
        inner.combine(args);
    }
}

/// A back end and what differs from it.
pub(crate) struct Twisted<T: ?Sized> {
    pub(crate) inner: Arc<dyn Backend>,
    pub(crate) twist: Arc<T>,
}

impl<T: Twist + ?Sized> Backend for Twisted<T> {
    fn numerics(&self) -> &str {
        self.inner.numerics()
    }
    fn packing(&self) -> Option<&'static dyn Packing> {
        self.inner.packing()
    }
    fn embed(&self, args: Embed<'_>) {
        self.twist.embed(&*self.inner, args);
    }
    fn rms_norm(&self, args: RmsNorm<'_>) {
        self.twist.rms_norm(&*self.inner, args);
    }
    fn linear(&self, args: Linear<'_>) {
        self.twist.linear(&*self.inner, args);
    }
    fn rotate(&self, args: Rotate<'_>) {
        self.twist.rotate(&*self.inner, args);
    }
    fn store_kv(&self, args: StoreKv<'_>) {
        self.twist.store_kv(&*self.inner, args);
    }
    fn attend(&self, args: Attend<'_>) {
        self.twist.attend(&*self.inner, args);
    }
    fn route(&self, args: Route<'_>) {
        self.twist.route(&*self.inner, args);
    }
    fn run_experts(&self, args: Experts<'_>) {
        self.twist.run_experts(&*self.inner, args);
    }
    fn combine(&self, args: Combine<'_>) {
        self.twist.combine(&*self.inner, args);
    }
}
