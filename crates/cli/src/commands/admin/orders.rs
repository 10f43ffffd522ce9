//! What an operator orders, and waits for.

use std::time::Duration;

use proto::internal::{DrainRequest, MoveLeadRequest};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Shown;
use super::cluster::{Cluster, answered, unknown, within};
use crate::in_words;

/// Time between two looks at a worker that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Orders a worker to end, and waits until its record is gone from the store.
pub(super) async fn drain(cluster: &Cluster, name: &str, seconds: u64) -> Result<Shown, String> {
    let (group, _) = cluster.group_of(name)?;
    let mut lead = cluster.lead(&group).await?;
    let order = DrainRequest {
        group: group.clone(),
        name: name.to_owned(),
    };
    let ordered = answered(&group, within(lead.drain(order)).await)?;
    super::tell(&format!("worker '{name}' was ordered to end ..."));
    let (key, began) = (records::member_key(name), Instant::now());
    loop {
        let entry = cluster.store.get(&key).await.map_err(in_words)?;
        let record = entry.and_then(|entry| records::read_member(&key, &entry.value).ok());
        let registration = record.and_then(|record| record.registration);
        if registration.is_none_or(|its| its.incarnation != ordered.incarnation) {
            break;
        }
        if began.elapsed() > Duration::from_secs(seconds) {
            return Err(format!(
                "worker '{name}' has not ended within {seconds} s; it goes on ending, look with \
                 'conclave admin members'"
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(Shown {
        text: format!("worker '{name}' of group '{group}' has ended\n"),
        json: json!({"name": name, "group": group, "incarnation": ordered.incarnation}),
    })
}

/// Hands the lead of a group over.
pub(super) async fn move_lead(
    cluster: &Cluster,
    group: &str,
    to: Option<&str>,
) -> Result<Shown, String> {
    cluster.meant(Some(group))?;
    let known = cluster.coordinators.iter().map(|its| its.name.as_str());
    if let Some(to) = to
        && !known.clone().any(|name| name == to)
    {
        return Err(unknown("coordinator", to, known));
    }
    let mut lead = cluster.lead(group).await?;
    let order = MoveLeadRequest {
        group: group.to_owned(),
        to: to.unwrap_or_default().to_owned(),
    };
    let moved = answered(group, within(lead.move_lead(order)).await)?;
    Ok(Shown {
        text: format!(
            "coordinator '{}' leads group '{group}' now, in term {}\n",
            moved.name, moved.term
        ),
        json: json!({"group": group, "lead": moved.name, "term": moved.term}),
    })
}
