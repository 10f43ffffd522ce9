//! Services of etcd that the memory store does not have.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::only_if;

/// In the place of the service `S`, answers UNIMPLEMENTED to all its calls, by name.
pub(crate) struct Unserved<S>(PhantomData<fn() -> S>);

impl<S> Unserved<S> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S> Clone for Unserved<S> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<S: NamedService> NamedService for Unserved<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> tonic::codegen::Service<Request<Body>> for Unserved<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = request.uri().path().trim_start_matches('/');
        let answer = match only_if(false, call) {
            Ok(()) => Response::default(),
            Err(status) => status.into_http(),
        };
        ready(Ok(answer))
    }
}
