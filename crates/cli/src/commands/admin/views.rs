//! What is there to be looked at.

use std::collections::BTreeMap;

use proto::internal::{DescribeResponse, ListSequencesRequest, ListedSequence, Registration};
use serde_json::{Value, json};

use super::Shown;
use super::cluster::{Cluster, answered, count_rows, within};
use super::table::{Table, duration, runs};

/// Experts of a layer that are named as those with the most rows.
const HOTTEST: usize = 4;

/// Returns what the leads say; `Err` for those that say nothing.
async fn described(cluster: &Cluster) -> BTreeMap<&str, Result<DescribeResponse, String>> {
    let mut all = BTreeMap::new();
    for group in cluster.groups.keys() {
        all.insert(group.as_str(), cluster.describe(group).await);
    }
    all
}

/// Says how a worker is, and which ranks it holds.
fn standing(
    its: &Registration,
    draining: bool,
    group: Option<&DescribeResponse>,
) -> (&'static str, Vec<usize>) {
    let Some(group) = group else {
        return ("unknown", Vec::new());
    };
    let member = group.members.iter().find(|member| {
        let known = member.registration.as_ref();
        known.is_some_and(|known| (&known.name, known.incarnation) == (&its.name, its.incarnation))
    });
    let ranks = member.map(|member| member.ranks.iter().map(|rank| *rank as usize).collect());
    let state = match member {
        _ if draining => "draining",
        None => "not registered",
        Some(member) if member.drain => "draining",
        Some(member) if member.ranks.is_empty() => "spare",
        Some(_) => "seated",
    };
    (state, ranks.unwrap_or_default())
}

/// Lists workers, then coordinators.
pub(super) async fn members(cluster: &Cluster, colour: bool) -> Result<Shown, String> {
    let groups = described(cluster).await;
    let columns = [
        "WORKER", "GROUP", "RANKS", "STATE", "ADDRESS", "ADMIN", "BUILD", "NUMERICS",
    ];
    let (mut table, mut workers) = (Table::new(&columns), Vec::new());
    for record in &cluster.members {
        let Some(its) = &record.registration else {
            continue;
        };
        let group = groups
            .get(its.group.as_str())
            .and_then(|it| it.as_ref().ok());
        let (state, ranks) = standing(its, record.draining, group);
        let texts = [&its.address, &its.admin, &its.build, &its.numerics].map(Clone::clone);
        let front = [
            its.name.clone(),
            its.group.clone(),
            runs(&ranks),
            state.to_owned(),
        ];
        table.row(front.into_iter().chain(texts));
        workers.push(json!({
            "name": its.name, "group": its.group, "ranks": ranks, "num_ranks": its.num_ranks,
            "state": state, "address": its.address, "admin": its.admin, "build": its.build,
            "numerics": its.numerics, "incarnation": its.incarnation, "weights": its.weights_fingerprint,
        }));
    }
    let mut text = table.render(colour);
    let (mut table, mut coordinators) = (
        Table::new(&[
            "COORDINATOR",
            "LEADS",
            "MAY LEAD",
            "STATE",
            "ADDRESS",
            "GRPC",
            "HTTP",
            "ADMIN",
            "BUILD",
        ]),
        Vec::new(),
    );
    for its in &cluster.coordinators {
        let leads = cluster.groups.iter().filter(|(_, lead)| {
            lead.as_ref()
                .is_some_and(|lead| lead.incarnation == its.incarnation)
        });
        let leads: Vec<&str> = leads.map(|(group, _)| group.as_str()).collect();
        let state = if its.draining { "draining" } else { "present" };
        let (led, groups) = (leads.join(" "), its.groups.join(" "));
        let texts = [&its.address, &its.grpc, &its.http, &its.admin, &its.build].map(Clone::clone);
        let front = [its.name.clone(), led, groups, state.to_owned()];
        table.row(front.into_iter().chain(texts));
        coordinators.push(json!({
            "name": its.name, "leads": leads, "groups": its.groups, "state": state,
            "address": its.address, "grpc": its.grpc, "http": its.http, "admin": its.admin,
            "build": its.build, "incarnation": its.incarnation,
        }));
    }
    text.push('\n');
    text.push_str(&table.render(colour));
    let json = json!({"workers": workers, "coordinators": coordinators});
    Ok(Shown { text, json })
}

/// Blocks of all ranks that sequences hold, and all there are, in per cent.
fn kv_use(group: &DescribeResponse) -> (u64, u64, String) {
    let pools = group.ranks.iter().flat_map(|rank| [rank.full, rank.window]);
    let (mut held, mut all) = (0, 0);
    for pool in pools.flatten() {
        held += pool.held;
        all += pool.held + pool.cached + pool.free;
    }
    let percent = held as f64 * 100.0 / all.max(1) as f64;
    (held, all, format!("{percent:.1}%"))
}

/// Lists the groups.
pub(super) async fn groups(cluster: &Cluster, colour: bool) -> Result<Shown, String> {
    let columns = [
        "GROUP", "LEAD", "TERM", "EPOCH", "STATE", "SINCE", "RANKS", "WAITING", "RUNNING", "KV",
    ];
    let (mut table, mut all, mut notes) = (Table::new(&columns), Vec::new(), String::new());
    for (name, group) in described(cluster).await {
        let lead = cluster.groups.get(name).and_then(Option::as_ref);
        let lead = lead.map_or("", |lead| &lead.name);
        let group = match group {
            Ok(group) => group,
            Err(why) => {
                let (cells, state) = ([name.to_owned(), lead.to_owned()], "no answer");
                let rest = ["", "", state, "", "", "", "", ""].map(str::to_owned);
                table.row(cells.into_iter().chain(rest));
                notes.push_str(&format!("group '{name}': {why}\n"));
                all.push(json!({"group": name, "lead": lead, "error": why}));
                continue;
            }
        };
        let (fence, kv) = (group.fence.unwrap_or_default(), kv_use(&group));
        let state = if group.serving {
            "serving"
        } else {
            "not serving"
        };
        if !group.serving {
            notes.push_str(&format!("group '{name}': {}\n", group.status));
        }
        table.row([
            name.to_owned(),
            lead.to_owned(),
            fence.term.to_string(),
            fence.epoch.to_string(),
            state.to_owned(),
            duration(group.since_ms),
            format!("{}/{}", group.ranks_present, group.ranks_needed),
            group.waiting.to_string(),
            group.running.to_string(),
            kv.2,
        ]);
        all.push(json!({
            "group": name, "lead": lead, "term": fence.term, "epoch": fence.epoch,
            "serving": group.serving, "since_ms": group.since_ms, "status": group.status,
            "ranks_present": group.ranks_present, "ranks_needed": group.ranks_needed,
            "missing": group.missing, "waiting": group.waiting, "running": group.running,
            "kv_blocks_held": kv.0, "kv_blocks": kv.1,
        }));
    }
    let text = table.render(colour) + &notes;
    Ok(Shown {
        text,
        json: json!({"groups": all}),
    })
}

/// Returns the name of each rank's worker.
fn holders(group: &DescribeResponse) -> BTreeMap<u32, &Registration> {
    let members = group.members.iter();
    let seats = members.flat_map(|member| {
        let ranks = member.ranks.iter();
        ranks.filter_map(|rank| Some((*rank, member.registration.as_ref()?)))
    });
    seats.collect()
}

fn holder(holders: &BTreeMap<u32, &Registration>, rank: u32) -> String {
    holders
        .get(&rank)
        .map(|its| its.name.clone())
        .unwrap_or_default()
}

/// Shows which rank holds which experts; layers with the same owners are one.
pub(super) async fn placement(
    cluster: &Cluster,
    group: Option<&str>,
    colour: bool,
) -> Result<Shown, String> {
    let mut table = Table::new(&["GROUP", "LAYERS", "RANK", "WORKER", "COUNT", "EXPERTS"]);
    let mut all = Vec::new();
    for name in cluster.meant(group)? {
        let group = cluster.describe(&name).await?;
        let holders = holders(&group);
        let mut alike: Vec<(Vec<usize>, &[u32])> = Vec::new();
        for (layer, its) in group.placement.iter().enumerate() {
            match alike.iter_mut().find(|(_, owners)| *owners == its.owners) {
                Some((layers, _)) => layers.push(layer),
                None => alike.push((vec![layer], &its.owners)),
            }
        }
        for (layers, owners) in &alike {
            for rank in 0..group.ranks_needed {
                let experts = owners
                    .iter()
                    .enumerate()
                    .filter(|(_, owner)| **owner == rank);
                let experts: Vec<usize> = experts.map(|(expert, _)| expert).collect();
                let worker = holder(&holders, rank);
                let (layers, count) = (runs(layers), experts.len().to_string());
                let (group, rank) = (name.clone(), rank.to_string());
                table.row([group, layers, rank, worker, count, runs(&experts)]);
            }
        }
        let layers = group.placement.iter().map(|layer| layer.owners.clone());
        let workers = holders
            .iter()
            .map(|(rank, its)| (rank.to_string(), its.name.clone().into()));
        let workers: serde_json::Map<String, Value> = workers.collect();
        let owners: Vec<Vec<u32>> = layers.collect();
        all.push(json!({"group": name, "workers": workers, "owners": owners}));
    }
    let text = table.render(colour);
    Ok(Shown {
        text,
        json: json!({"groups": all}),
    })
}

/// Shows how many rows the experts of each layer have computed lately.
pub(super) async fn experts(
    cluster: &Cluster,
    group: Option<&str>,
    colour: bool,
) -> Result<Shown, String> {
    let mut table = Table::new(&["GROUP", "LAYER", "ROWS", "MAX/MEAN", "MOST ROWS"]);
    let (mut all, mut notes) = (Vec::new(), String::new());
    for name in cluster.meant(group)? {
        let group = cluster.describe(&name).await?;
        let mut sums: Vec<Vec<u64>> = Vec::new();
        let (mut over_ms, mut silent) = (0, Vec::new());
        for member in group
            .members
            .iter()
            .filter(|member| !member.ranks.is_empty())
        {
            let Some(its) = &member.registration else {
                continue;
            };
            match count_rows(&its.address).await {
                Ok(counted) => {
                    over_ms = over_ms.max(counted.over_ms);
                    add(
                        &mut sums,
                        counted.layers.into_iter().map(|layer| layer.rows),
                    );
                }
                Err(why) => {
                    notes.push_str(&format!("worker '{}' is not counted: {why}\n", its.name));
                    silent.push(its.name.clone());
                }
            }
        }
        for (layer, rows) in sums.iter().enumerate() {
            let (total, most) = (rows.iter().sum::<u64>(), hottest(rows));
            let mean = total as f64 / rows.len().max(1) as f64;
            let top = most.first().map_or(0, |(_, rows)| *rows);
            let over = if total == 0 {
                String::new()
            } else {
                format!("{:.2}", top as f64 / mean)
            };
            let most: Vec<String> = most
                .iter()
                .map(|(expert, rows)| format!("{expert}: {rows}"))
                .collect();
            let (layer, total) = (layer.to_string(), total.to_string());
            table.row([name.clone(), layer, total, over, most.join(", ")]);
        }
        notes.push_str(&format!(
            "group '{name}': counted over {}\n",
            duration(over_ms)
        ));
        all.push(json!({
            "group": name, "over_ms": over_ms, "rows": sums, "not_counted": silent,
        }));
    }
    let text = table.render(colour) + &notes;
    Ok(Shown {
        text,
        json: json!({"groups": all}),
    })
}

/// Adds one worker's rows to those of the others.
fn add(sums: &mut Vec<Vec<u64>>, layers: impl Iterator<Item = Vec<u64>>) {
    for (layer, rows) in layers.enumerate() {
        if sums.len() <= layer {
            sums.push(Vec::new());
        }
        let sums = &mut sums[layer];
        sums.resize(sums.len().max(rows.len()), 0);
        for (sum, rows) in sums.iter_mut().zip(rows) {
            *sum += rows;
        }
    }
}

/// Returns the experts with the most rows.
fn hottest(rows: &[u64]) -> Vec<(usize, u64)> {
    let mut all: Vec<(usize, u64)> = rows.iter().copied().enumerate().collect();
    all.retain(|(_, rows)| *rows > 0);
    all.sort_by_key(|(expert, rows)| (std::cmp::Reverse(*rows), *expert));
    all.truncate(HOTTEST);
    all
}

/// Lists the sequences that wait or run.
pub(super) async fn sequences(
    cluster: &Cluster,
    group: Option<&str>,
    limit: usize,
    colour: bool,
) -> Result<Shown, String> {
    let columns = [
        "GROUP",
        "REQUEST",
        "PRINCIPAL",
        "STATE",
        "PROMPT",
        "GENERATED",
        "AGE",
        "FOLLOWERS",
    ];
    let (mut table, mut all, mut notes) = (Table::new(&columns), Vec::new(), String::new());
    for group in cluster.meant(group)? {
        let (listed, more) = list(cluster, &group, limit).await?;
        for its in listed {
            let state = if its.running { "running" } else { "waiting" };
            table.row([
                group.clone(),
                its.request_id.clone(),
                its.principal.clone(),
                state.to_owned(),
                its.prompt_tokens.to_string(),
                its.generated_tokens.to_string(),
                duration(its.age_ms),
                its.followers.to_string(),
            ]);
            all.push(json!({
                "group": group, "sequence": its.sequence, "request_id": its.request_id,
                "principal": its.principal, "state": state, "prompt_tokens": its.prompt_tokens,
                "generated_tokens": its.generated_tokens, "age_ms": its.age_ms,
                "followers": its.followers,
            }));
        }
        if more {
            notes.push_str(&format!(
                "group '{group}' has more; list them with --limit\n"
            ));
        }
    }
    let text = table.render(colour) + &notes;
    Ok(Shown {
        text,
        json: json!({"sequences": all, "complete": notes.is_empty()}),
    })
}

/// Lists sequences page by page; also says whether there are more than that.
async fn list(
    cluster: &Cluster,
    group: &str,
    limit: usize,
) -> Result<(Vec<ListedSequence>, bool), String> {
    let mut client = cluster.lead(group).await?;
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let asked = ListSequencesRequest {
            group: group.to_owned(),
            page_size: u32::try_from(limit - all.len()).unwrap_or(u32::MAX),
            after,
        };
        let page = answered(group, within(client.list_sequences(asked)).await)?;
        all.extend(page.sequences);
        if page.next == 0 || all.len() >= limit {
            return Ok((all, page.next != 0));
        }
        after = page.next;
    }
}

#[cfg(test)]
mod tests {
    use proto::internal::GroupMember;

    use super::*;

    #[test]
    fn rows_of_all_workers_are_added_and_the_hottest_experts_named() {
        let mut sums = Vec::new();
        add(&mut sums, vec![vec![1, 0, 0, 4], vec![]].into_iter());
        add(&mut sums, vec![vec![0, 4, 0], vec![2]].into_iter());
        assert_eq!(sums, [vec![1, 4, 0, 4], vec![2]]);
        assert_eq!(hottest(&sums[0]), [(1, 4), (3, 4), (0, 1)]);
    }

    #[test]
    fn a_worker_is_seated_spare_draining_or_not_registered() {
        let its = Registration {
            name: "w".into(),
            incarnation: 1,
            ..Default::default()
        };
        let member = |ranks: Vec<u32>, drain| DescribeResponse {
            members: vec![GroupMember {
                registration: Some(its.clone()),
                ranks,
                drain,
            }],
            ..Default::default()
        };
        let state = |draining, group: &DescribeResponse| standing(&its, draining, Some(group)).0;
        assert_eq!(state(false, &member(vec![0, 1], false)), "seated");
        assert_eq!(state(false, &member(vec![], false)), "spare");
        assert_eq!(state(false, &member(vec![0], true)), "draining");
        assert_eq!(state(true, &DescribeResponse::default()), "draining");
        assert_eq!(state(false, &DescribeResponse::default()), "not registered");
        let again = Registration {
            incarnation: 2,
            ..its.clone()
        };
        assert_eq!(
            standing(&again, false, Some(&member(vec![0], false))).0,
            "not registered"
        );
        assert_eq!(standing(&its, false, None).0, "unknown");
    }
}
