//! An engine, its ranks, and what clients have seen; every move checks the invariants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::{
    BadResult, Completed, Engine, EngineConfig, Event, Finish, Refused, Report, Stop, Submit,
};
use spec::{
    Epoch, Fence, KvPlan, PartResult, Rank, SampledToken, Sampling, SequenceId, Slot, Step, Term,
    TokenId,
};

use engine::stub::{Late, Model, StubRank, extend, mix};

/// How many may go by a sequence of their principal that came before them.
const MOST_PASSED: usize = 8;

/// Numbers from a seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = mix(self.0);
        (self.0 % bound as u64) as usize
    }

    pub(crate) fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A request and what came of it.
pub(crate) struct Request {
    pub(crate) submit: Submit,
    /// The output of an undisturbed run, after `submit.tokens`.
    pub(crate) expected: Vec<TokenId>,
    pub(crate) expected_finish: Finish,
    pub(crate) got: Vec<TokenId>,
    /// Prompt positions whose logprobs came, from 1.
    pub(crate) logprobs: usize,
    /// How many are to come.
    owed: usize,
    pub(crate) finished: bool,
}

impl Request {
    /// How many tokens of output there are.
    pub(crate) fn output_len(&self) -> usize {
        self.submit.tokens.len() - self.submit.prompt_len + self.got.len()
    }
}

struct InFlight {
    step: Step,
    /// What a rank that ran ahead has answered.
    answers: Vec<Option<PartResult>>,
    late_percent: usize,
}

impl InFlight {
    /// Whether the input of a slot's line is late: asked again, the answer is the same.
    fn lateness(&self, rank: usize) -> impl Fn(Slot) -> Late + use<> {
        let (step, percent) = (self.step.number.0, self.late_percent as u64);
        move |slot| {
            let draw = mix(mix(step) ^ mix(rank as u64 + 77) ^ mix(u64::from(slot.0) + 999));
            match draw % 100 {
                draw if draw >= percent => Late::No,
                draw if draw % 3 == 0 => Late::Withholds,
                draw => Late::Skips {
                    applies_tables: draw % 2 == 0,
                },
            }
        }
    }
}

/// The whole: one engine with its ranks.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) model: Model,
    pub(crate) ranks: Vec<StubRank>,
    pub(crate) requests: BTreeMap<SequenceId, Request>,
    pub(crate) total: Report,
    /// Admissions that went by one of the same principal that had come before.
    pub(crate) passed_over: usize,
    /// Outputs that were changed.
    pub(crate) rewritten: usize,
    /// Parts with chunks of several prompts.
    pub(crate) shared_parts: usize,
    pub(crate) rng: Rng,
    /// Percent of the lines whose input is late.
    pub(crate) late_percent: usize,
    in_flight: VecDeque<InFlight>,
    /// Who never ran, and how many of the same principal went by it.
    new: BTreeMap<SequenceId, usize>,
    epoch: u64,
    steps: u64,
}

/// Tokens that no other `key` gives.
pub(crate) fn text(key: u32, len: u32) -> Vec<TokenId> {
    (0..len).map(|i| TokenId(key * 10_000 + i)).collect()
}

/// A configuration with the trained models' window and room for everything.
pub(crate) fn roomy() -> EngineConfig {
    EngineConfig {
        num_ranks: 1,
        kv: KvPlan {
            block_size: 16,
            full_blocks: 2048,
            window_blocks: 1024,
            num_slots: 8,
        },
        sliding_window: 128,
        max_step_rows: 256,
        max_in_flight: 2,
        max_waiting: 64,
        max_context: 8192,
        checkpoint_interval: 1024,
    }
}

/// A greedy request of principal 0.
pub(crate) fn request(id: u64, prompt: Vec<TokenId>, max_tokens: usize) -> Submit {
    Submit {
        sequence: SequenceId(id),
        prompt_len: prompt.len(),
        tokens: prompt,
        sampling: Arc::new(Sampling::default()),
        stop: Stop {
            max_tokens,
            stop_tokens: Vec::new(),
        },
        principal: 0,
        cache_salt: 0,
        was_accepted: false,
        priority: 0,
    }
}

impl World {
    pub(crate) fn new(config: EngineConfig, vocab: u32, seed: u64) -> Self {
        let model = Model {
            block_size: config.kv.block_size,
            window: config.sliding_window,
            vocab,
        };
        let ranks = vec![StubRank::default(); config.num_ranks];
        Self {
            engine: Engine::new(config, fence(1)).expect("a configuration that holds"),
            model,
            ranks,
            requests: BTreeMap::new(),
            total: Report::default(),
            passed_over: 0,
            rewritten: 0,
            shared_parts: 0,
            rng: Rng::new(seed),
            late_percent: 0,
            in_flight: VecDeque::new(),
            new: BTreeMap::new(),
            epoch: 1,
            steps: 0,
        }
    }

    /// The output of an undisturbed run, and how it ends.
    pub(crate) fn undisturbed(&self, submit: &Submit) -> (Vec<TokenId>, Finish) {
        let mut all = submit.tokens.clone();
        let limit = (submit.prompt_len + submit.stop.max_tokens)
            .min(self.engine.config().max_context)
            .max(all.len());
        let mut history = all.iter().fold(0, |history, token| extend(history, *token));
        let mut finish = Finish::Length;
        while all.len() < limit {
            let token = self.model.sample(history, submit.sampling.seed);
            history = extend(history, token);
            all.push(token);
            if submit.stop.stop_tokens.contains(&token) {
                finish = Finish::Stop { token };
                break;
            }
        }
        (all.split_off(submit.tokens.len()), finish)
    }

    pub(crate) fn submit(&mut self, submit: Submit) -> Result<(), Refused> {
        let (expected, expected_finish) = self.undisturbed(&submit);
        let before = format!("{:?}", self.engine);
        let answer = self.engine.submit(submit.clone());
        if answer.is_err() {
            assert_eq!(format!("{:?}", self.engine), before, "a refusal changes");
            return answer;
        }
        let owed = match submit.sampling.prompt_logprobs {
            Some(_) if submit.tokens.len() == submit.prompt_len => submit.prompt_len - 1,
            _ => 0,
        };
        let request = Request {
            owed,
            submit,
            expected,
            expected_finish,
            got: Vec::new(),
            logprobs: 0,
            finished: false,
        };
        self.new.insert(request.submit.sequence, 0);
        self.requests.insert(request.submit.sequence, request);
        self.engine.check_invariants();
        Ok(())
    }

    /// Changes the output of a live sequence behind its first `keep` tokens.
    pub(crate) fn rewrite(&mut self, sequence: SequenceId, keep: usize, tokens: &[TokenId]) {
        let request = self.requests.get_mut(&sequence).expect("it lives");
        let mut submit = request.submit.clone();
        submit.tokens.extend(&request.got);
        submit.tokens.truncate(submit.prompt_len + keep);
        submit.tokens.extend(tokens);
        let limit = submit.prompt_len + submit.stop.max_tokens;
        let limit = limit.min(self.engine.config().max_context);
        submit.tokens.truncate(limit.max(submit.prompt_len + keep));
        let (expected, expected_finish) = self.undisturbed(&submit);
        let last = submit.tokens[submit.prompt_len..].last();
        let stops = |last| submit.tokens.len() >= limit || submit.stop.stop_tokens.contains(last);
        let is_over = last.is_some_and(stops);
        let rewritten = self.engine.rewrite(sequence, keep, tokens);
        let ended = rewritten.expect("the output is there").is_some();
        assert_eq!(ended, is_over, "a rewrite ends what it makes whole");
        let request = self.requests.get_mut(&sequence).expect("it lives");
        (request.submit, request.got) = (submit, Vec::new());
        (request.expected, request.expected_finish) = (expected, expected_finish);
        request.finished = ended;
        if ended {
            self.new.remove(&sequence);
        }
        self.rewritten += 1;
        self.engine.check_invariants();
    }

    pub(crate) fn cancel(&mut self, sequence: SequenceId) {
        let live = self.requests.get(&sequence).is_some_and(|r| !r.finished);
        assert_eq!(self.engine.cancel(sequence), live);
        if live {
            self.requests.remove(&sequence);
            self.new.remove(&sequence);
        }
        self.engine.check_invariants();
    }

    /// Plans a step, if the engine has one.
    pub(crate) fn plan(&mut self) -> Option<&Step> {
        let step = self.engine.next_step();
        self.engine.check_invariants();
        self.take_admitted();
        let Some(step) = step else {
            let idle = !self.in_flight.is_empty() || !self.engine.has_work();
            assert!(idle, "work but no step, and nothing in flight");
            return None;
        };
        self.steps += 1;
        assert_eq!(step.fence, fence(self.epoch));
        assert_eq!(
            step.number.0, self.steps,
            "numbers ascend and none is left out"
        );
        assert_eq!(step.parts.len(), self.ranks.len());
        for (rank, part) in (0..).map(Rank).zip(&step.parts) {
            assert_eq!(part.rank, rank);
            let rows: u32 = part.lines.iter().map(|line| line.len).sum();
            assert!(rows as usize <= self.engine.config().max_step_rows);
            let chunks = part.lines.iter().filter(|line| line.len > 1).count();
            self.shared_parts += usize::from(chunks > 1);
        }
        let answers = vec![None; self.ranks.len()];
        self.in_flight.push_back(InFlight {
            step,
            answers,
            late_percent: self.late_percent,
        });
        self.in_flight.back().map(|in_flight| &in_flight.step)
    }

    /// Checks that within a principal the first comes first, but for a few that go by.
    fn take_admitted(&mut self) {
        for admitted in self.engine.take_admitted() {
            let id = admitted.sequence;
            let passed = self.new.remove(&id);
            passed.expect("a sequence is admitted once");
            let kind = |id: &SequenceId| {
                let submit = &self.requests[id].submit;
                (submit.principal, submit.priority, submit.was_accepted)
            };
            let own = kind(&id);
            let before = self.new.range_mut(..id);
            for (_, by) in before.filter(|(before, _)| kind(before) == own) {
                *by += 1;
                self.passed_over += 1;
                assert!(*by <= MOST_PASSED, "{id} is the {by}th to pass another");
            }
        }
    }

    /// Lets a rank execute all steps in flight, on its KV but with the slots of before: they can
    /// be run again, so that `complete` does just that and must find the same.
    pub(crate) fn run_ahead(&mut self, rank: usize) {
        let mut ahead = self.ranks[rank].clone();
        for index in 0..self.in_flight.len() {
            let in_flight = &mut self.in_flight[index];
            let late = in_flight.lateness(rank);
            let answer = ahead.run(self.model, &in_flight.step.parts[rank], usize::MAX, late);
            let before = in_flight.answers[rank].replace(answer.clone());
            assert!(
                before.is_none_or(|before| before == answer),
                "a rerun differs"
            );
        }
        self.ranks[rank].kv = ahead.kv;
    }

    /// Executes the oldest step and hands its results over; with `broken`, wrong ones first.
    pub(crate) fn complete(&mut self, broken: bool) -> Option<Completed> {
        let in_flight = self.in_flight.pop_front()?;
        let step = &in_flight.step;
        let mut results = Vec::new();
        for (rank, part) in step.parts.iter().enumerate() {
            let late = in_flight.lateness(rank);
            let stub = &mut self.ranks[rank];
            let answer = stub.run(self.model, part, usize::MAX, &late);
            let once = stub.clone();
            assert_eq!(stub.run(self.model, part, usize::MAX, &late), answer);
            assert!(once.kv == stub.kv && once.slots == stub.slots, "run twice");
            if let Some(ahead) = &in_flight.answers[rank] {
                assert_eq!(*ahead, answer, "what ran ahead and what ran again");
            }
            results.push(answer);
        }
        if broken {
            let before = format!("{:?}", self.engine);
            let wrong = self.break_results(results.clone());
            let refused: Result<_, BadResult> = self.engine.complete(step.number, wrong);
            refused.expect_err("the results are broken");
            assert_eq!(format!("{:?}", self.engine), before, "a bad result changes");
        }
        let completed = self.engine.complete(step.number, results);
        let completed = completed.expect("the results answer the step");
        self.engine.check_invariants();
        for event in &completed.events {
            self.take_event(event);
        }
        self.add_report(&completed.report);
        Some(completed)
    }

    fn break_results(&mut self, mut results: Vec<PartResult>) -> Vec<PartResult> {
        let extra = SampledToken {
            token: TokenId(0),
            logprob: None,
        };
        let rank = self.rng.below(results.len());
        let lines = &mut results[rank].lines;
        match self.rng.below(4) {
            0 => drop(results.pop()),
            1 => results[rank].rank.0 += 1,
            2 => lines.push(Default::default()),
            _ => match lines.last_mut() {
                Some(line) => line.tokens.extend([extra.clone(), extra]),
                None => lines.push(Default::default()),
            },
        }
        results
    }

    fn take_event(&mut self, event: &Event) {
        let request = self.requests.get_mut(&event.sequence);
        let request = request.expect("events are of live sequences");
        assert!(!request.finished, "an event after the end");
        let submit = &request.submit;
        if !event.prompt_logprobs.is_empty() {
            assert_eq!(event.first_prompt_position as usize, request.logprobs + 1);
        }
        for logprob in &event.prompt_logprobs {
            request.logprobs += 1;
            let (before, after) = submit.tokens.split_at(request.logprobs);
            let history = before
                .iter()
                .fold(0, |history, token| extend(history, *token));
            assert_eq!(logprob.token, after[0]);
            assert_eq!(logprob.logprob, Model::logprob(history));
        }
        let position = submit.tokens.len() + request.got.len();
        assert_eq!(event.first_position as usize, position, "exactly once");
        request
            .got
            .extend(event.tokens.iter().map(|sampled| sampled.token));
        assert!(request.expected.starts_with(&request.got), "another text");
        if let Some(finish) = event.finished {
            assert_eq!(request.got, request.expected, "the whole text");
            assert_eq!(finish, request.expected_finish);
            assert_eq!(request.logprobs, request.owed, "all logprobs of the prompt");
            request.finished = true;
        }
    }

    fn add_report(&mut self, report: &Report) {
        self.total.rows += report.rows;
        self.total.wasted_rows += report.wasted_rows;
        self.total.late_lines += report.late_lines;
        self.total.tokens += report.tokens;
        self.total.admitted += report.admitted;
        self.total.admitted_rows += report.admitted_rows;
        self.total.hit_rows += report.hit_rows;
        self.total.preemptions += report.preemptions;
    }

    /// Leaves every rank somewhere within the steps in flight, the last of them half done.
    fn run_partly(&mut self) {
        for rank in 0..self.ranks.len() {
            let done = self.rng.below(self.in_flight.len() + 1);
            for index in 0..=done.min(self.in_flight.len().saturating_sub(1)) {
                let Some(in_flight) = self.in_flight.get(index) else {
                    break;
                };
                let part = &in_flight.step.parts[rank];
                let lines = match index == done {
                    true => self.rng.below(part.lines.len() + 1),
                    false => usize::MAX,
                };
                let late = in_flight.lateness(rank);
                self.ranks[rank].run(self.model, part, lines, late);
            }
        }
        self.in_flight.clear();
    }

    pub(crate) fn void(&mut self) {
        self.run_partly();
        self.engine.void();
        self.engine.check_invariants();
    }

    /// Begins an epoch in which rank r is what `homes[r]` was.
    pub(crate) fn begin_epoch(&mut self, homes: &[Option<Rank>]) {
        self.run_partly();
        self.epoch += 1;
        let old = self.ranks.clone();
        let kept = |home: &Option<Rank>| home.map(|home| old[home.index()].clone());
        self.ranks = homes
            .iter()
            .map(|home| kept(home).unwrap_or_default())
            .collect();
        let begun = self.engine.begin_epoch(fence(self.epoch), homes);
        begun.expect("the epoch is new and the ranks are there");
        self.engine.check_invariants();
    }

    /// Plans as far as possible, then completes, until all is done.
    pub(crate) fn drain(&mut self) {
        let unfinished = |request: &&Request| !request.finished;
        let live: Vec<_> = self.requests.values().filter(unfinished).collect();
        let tokens: usize = live
            .iter()
            .map(|r| r.submit.tokens.len() + r.expected.len())
            .sum();
        let most = 200 + 20 * tokens;
        for _ in 0..most {
            while self.plan().is_some() {}
            if self.complete(false).is_none() {
                break;
            }
        }
        assert!(!self.engine.has_work(), "not done after {most} steps");
        assert!(self.requests.values().all(|request| request.finished));
        for rank in self.engine.load().ranks {
            assert_eq!((rank.running, rank.full.held, rank.window.held), (0, 0, 0));
        }
    }

    /// Plans one step and completes it.
    pub(crate) fn step(&mut self) -> (Step, Completed) {
        let step = self.plan().expect("there is work").clone();
        (step, self.complete(false).expect("a step is in flight"))
    }

    /// Runs one request alone to its end; returns how many of its tokens were a hit.
    pub(crate) fn hit_of(&mut self, submit: Submit) -> usize {
        let before = self.total.hit_rows;
        self.submit(submit).expect("there is room");
        self.drain();
        self.total.hit_rows - before
    }

    pub(crate) fn output_of(&self, id: u64) -> &[TokenId] {
        &self.requests[&SequenceId(id)].got
    }
}

fn fence(epoch: u64) -> Fence {
    Fence {
        term: Term(1),
        epoch: Epoch(epoch),
    }
}
