//! A lead as the tests play it: it makes parts by hand and knows exactly what it sent.

use checkpoint::{Checkpoint, ModelName};
use proto::internal as wire;
use proto::internal::step_service_client::StepServiceClient;
use spec::Placement;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use wire::prepare_response::State;
use wire::run_response::Message;

use crate::process::{MODEL, Process};

/// The group of all workers.
pub(crate) const GROUP: &str = "0";
/// Positions in a block.
pub(crate) const BLOCK: u32 = 16;
/// Blocks that each sequence is given, in both pools.
pub(crate) const BLOCKS: u32 = 6;
/// Sequences a rank can hold.
pub(crate) const SLOTS: u32 = 4;

pub(crate) fn fence(term: u64, epoch: u64) -> wire::Fence {
    wire::Fence { term, epoch }
}

/// A worker as the lead sees it.
pub(crate) struct Member {
    pub(crate) wire: wire::Member,
    pub(crate) client: StepServiceClient<Channel>,
}

/// Connects to workers and gives them ranks in their order.
pub(crate) async fn seat(workers: &[&Process]) -> Vec<Member> {
    let mut members = Vec::new();
    let mut next = 0;
    for worker in workers {
        let ranks = (next..next + worker.ranks).collect();
        next += worker.ranks;
        let (name, address) = (worker.name.clone(), worker.address.clone());
        let client = StepServiceClient::connect(address.clone()).await.unwrap();
        members.push(Member {
            wire: wire::Member {
                name,
                address,
                ranks,
            },
            client,
        });
    }
    members
}

/// The request that prepares `members[index]` for an epoch.
pub(crate) fn prepare_request(
    members: &[Member],
    index: usize,
    fence: wire::Fence,
) -> wire::PrepareRequest {
    let num_ranks = members.iter().map(|member| member.wire.ranks.len()).sum();
    let checkpoint = Checkpoint::named(&ModelName::parse(MODEL).unwrap()).unwrap();
    let geometry = checkpoint.geometry();
    let placement = Placement::even(geometry.num_layers(), geometry.num_experts, num_ranks);
    let owners = |layer| placement.owners(layer).iter().map(|rank| rank.0).collect();
    let layers = 0..geometry.num_layers();
    wire::PrepareRequest {
        fence: Some(fence),
        members: members.iter().map(|member| member.wire.clone()).collect(),
        placement: layers
            .map(|layer| wire::LayerPlacement {
                owners: owners(layer),
            })
            .collect(),
        kv: Some(wire::KvPlan {
            block_size: BLOCK,
            full_blocks: SLOTS * BLOCKS,
            window_blocks: SLOTS * BLOCKS,
            num_slots: SLOTS,
        }),
        name: members[index].wire.name.clone(),
        max_step_rows: 128,
        held: Vec::new(),
        group: GROUP.into(),
        lead: 1,
    }
}

/// Sends one preparation and waits for its end.
pub(crate) async fn prepare_one(
    member: &mut Member,
    request: wire::PrepareRequest,
) -> Result<Vec<bool>, Status> {
    let mut states = member.client.prepare(request).await?.into_inner();
    loop {
        let state = states
            .message()
            .await?
            .expect("a preparation ends with ready");
        if let Some(State::Ready(ready)) = state.state {
            return Ok(ready.kept_kv);
        }
    }
}

/// Prepares all members and opens a run with each; returns whose KV was kept, by rank.
pub(crate) async fn prepare(members: &mut [Member], fence: wire::Fence) -> (Group, Vec<bool>) {
    let mut kept_kv = Vec::new();
    for index in 0..members.len() {
        let request = prepare_request(members, index, fence);
        kept_kv.extend(prepare_one(&mut members[index], request).await.unwrap());
    }
    let mut runs = Vec::new();
    for member in members {
        runs.push(Run::open(member).await);
    }
    (Group { fence, runs }, kept_kv)
}

/// A stream of steps to one worker.
pub(crate) struct Run {
    pub(crate) ranks: Vec<u32>,
    pub(crate) requests: mpsc::Sender<wire::RunRequest>,
    pub(crate) answers: Streaming<wire::RunResponse>,
}

impl Run {
    pub(crate) async fn open(member: &mut Member) -> Self {
        let (requests, stream) = mpsc::channel(16);
        let answers = member
            .client
            .run(ReceiverStream::new(stream))
            .await
            .unwrap();
        let ranks = member.wire.ranks.clone();
        Self {
            ranks,
            requests,
            answers: answers.into_inner(),
        }
    }

    /// Sends the parts of this worker's ranks.
    pub(crate) async fn send(&self, fence: wire::Fence, step: u64, parts: &[wire::Part]) {
        let parts = self
            .ranks
            .iter()
            .map(|rank| parts[*rank as usize].clone())
            .collect();
        let request = wire::RunRequest {
            fence: Some(fence),
            step,
            parts,
            group: GROUP.into(),
        };
        self.requests.send(request).await.unwrap();
    }

    /// Returns the next answer that is not mere progress.
    pub(crate) async fn answer(&mut self) -> Result<Message, Status> {
        loop {
            match self.message().await? {
                Message::Progress(_) => {}
                other => return Ok(other),
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Result<Message, Status> {
        let answer = self.answers.message().await?;
        let answer = answer.ok_or_else(|| Status::cancelled("the stream has ended"))?;
        Ok(answer.message.expect("an answer says something"))
    }

    /// Reads progress until every rank of the worker waits for `peer`.
    pub(crate) async fn until_waiting_for(&mut self, peer: u32) {
        loop {
            if let Message::Progress(progress) = self.message().await.unwrap() {
                assert_eq!(progress.ranks.len(), self.ranks.len());
                if progress
                    .ranks
                    .iter()
                    .all(|rank| rank.waiting_for == Some(peer))
                {
                    return;
                }
            }
        }
    }

    /// Reads up to the failure of a step.
    pub(crate) async fn failure(&mut self) -> wire::StepFailed {
        match self.answer().await.unwrap() {
            Message::Failed(failed) => failed,
            other => panic!("{other:?}"),
        }
    }
}

/// A prepared group.
pub(crate) struct Group {
    pub(crate) fence: wire::Fence,
    pub(crate) runs: Vec<Run>,
}

impl Group {
    pub(crate) fn num_ranks(&self) -> usize {
        self.runs.iter().map(|run| run.ranks.len()).sum()
    }

    /// Runs one step on all workers; returns each rank's lines.
    pub(crate) async fn step(&mut self, step: u64, parts: &[wire::Part]) -> Vec<wire::PartResult> {
        for run in &self.runs {
            run.send(self.fence, step, parts).await;
        }
        let mut results = Vec::new();
        for run in &mut self.runs {
            match run.answer().await.unwrap() {
                Message::Done(done) => {
                    assert_eq!(done.step, step);
                    results.extend(done.parts);
                }
                other => panic!("{other:?}"),
            }
        }
        let ranks: Vec<u32> = results.iter().map(|part| part.rank).collect();
        assert_eq!(ranks, (0..self.num_ranks() as u32).collect::<Vec<_>>());
        results
    }
}

/// Sampling that uses random numbers and reports logprobs, whose bits tell the logits.
pub(crate) fn sampling(seed: u64) -> wire::Sampling {
    wire::Sampling {
        temperature: 1.0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        seed,
        logprobs: Some(5),
        ..wire::Sampling::default()
    }
}

/// A sequence of a test: where it lives and what it has said so far.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) index: u32,
    pub(crate) prompt: Vec<u32>,
    pub(crate) output: Vec<wire::SampledToken>,
}

impl Sequence {
    /// Returns `count` sequences of different lengths.
    pub(crate) fn several(count: u32) -> Vec<Self> {
        let lengths = [5, 20, 1, 33];
        let sequence = |index: u32| {
            let length = lengths[index as usize % lengths.len()];
            let prompt = (0..length)
                .map(|i| (i * 37 + index * 101 + 3) % 500)
                .collect();
            Self {
                index,
                prompt,
                output: Vec::new(),
            }
        };
        (0..count).map(sequence).collect()
    }

    /// Returns the rank it lives on, and its slot there.
    pub(crate) fn home(&self, num_ranks: usize) -> (usize, u32) {
        let num_ranks = num_ranks as u32;
        ((self.index % num_ranks) as usize, self.index / num_ranks)
    }

    fn tokens(&self) -> Vec<u32> {
        let output = self.output.iter().map(|sampled| sampled.token);
        self.prompt.iter().copied().chain(output).collect()
    }

    /// Tells a rank all about it, and computes all that is known.
    fn begin(&self, slot: u32) -> (wire::Open, wire::Line) {
        let tokens = self.tokens();
        let len = tokens.len() as u32;
        let open = wire::Open {
            slot,
            sequence: u64::from(self.index),
            tokens,
            prompt_len: self.prompt.len() as u32,
            sampling: Some(sampling(u64::from(self.index))),
            record: Vec::new(),
            request_id: format!("request-{}", self.index),
        };
        let blocks: Vec<u32> = (slot * BLOCKS..(slot + 1) * BLOCKS).collect();
        let run = Some(wire::BlockRun { first: 0, blocks });
        let line = wire::Line {
            slot,
            start: 0,
            len,
            full: run.clone(),
            window: run,
            ..sampled()
        };
        (open, line)
    }

    /// Computes the token sampled last.
    fn go_on(&self, slot: u32) -> wire::Line {
        let start = (self.prompt.len() + self.output.len() - 1) as u32;
        wire::Line {
            slot,
            start,
            len: 1,
            ..sampled()
        }
    }
}

fn sampled() -> wire::Line {
    wire::Line {
        samples: true,
        ..wire::Line::default()
    }
}

/// Parts that begin the sequences, or go on with them.
pub(crate) fn parts(sequences: &[Sequence], num_ranks: usize, begin: bool) -> Vec<wire::Part> {
    let empty = |rank| wire::Part {
        rank,
        ..wire::Part::default()
    };
    let mut parts: Vec<_> = (0..num_ranks as u32).map(empty).collect();
    for sequence in sequences {
        let (rank, slot) = sequence.home(num_ranks);
        if begin {
            let (open, line) = sequence.begin(slot);
            parts[rank].opens.push(open);
            parts[rank].lines.push(line);
        } else {
            parts[rank].lines.push(sequence.go_on(slot));
        }
    }
    parts
}

/// Runs a step and appends what it sampled to the sequences.
pub(crate) async fn advance(group: &mut Group, step: u64, sequences: &mut [Sequence], begin: bool) {
    let num_ranks = group.num_ranks();
    let results = group.step(step, &parts(sequences, num_ranks, begin)).await;
    let mut lines: Vec<_> = results
        .into_iter()
        .map(|part| part.lines.into_iter())
        .collect();
    for sequence in sequences {
        let (rank, _) = sequence.home(num_ranks);
        let line = lines[rank].next().expect("a result for each line");
        assert!(line.ran);
        assert_eq!(line.tokens.len(), 1);
        sequence.output.extend(line.tokens);
    }
}
