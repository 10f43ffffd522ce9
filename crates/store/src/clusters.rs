//! Which clusters a store holds.

use etcd_client::GetOptions;
use telemetry::labels::StoreOp;

use crate::client::Store;
use crate::error::Error;
use crate::key::{ROOT, ROOT_END, cluster_of};
use crate::limits::MAX_CLUSTERS;
use crate::link::{Repeat, Services};

impl Store {
    /// Lists the clusters that have keys in this store, by name, at most
    /// [`MAX_CLUSTERS`]. One key of each is read.
    ///
    /// # Errors
    ///
    /// As for [`Store::get`].
    pub async fn clusters(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let (mut from, end) = (ROOT.to_owned(), ROOT_END.to_owned());
        while names.len() < MAX_CLUSTERS {
            let read = |services: Services| {
                let (mut kv, from) = (services.kv, from.clone());
                let options = GetOptions::new().with_range(end.clone()).with_limit(1);
                async move { kv.get(from, Some(options)).await }
            };
            let link = &self.link;
            let answer = link.call(StoreOp::Read, "list clusters", Repeat::Harmless, read);
            let answer = answer.await?;
            let first = answer.kvs().first();
            let Some(name) = first.and_then(|first| cluster_of(first.key())) else {
                break;
            };
            from = format!("{ROOT}{name}0");
            names.push(name);
        }
        Ok(names)
    }
}
