//! The one table of metrics.
//!
//! A line is: meaning, field, type with labels, name, unit, buckets. `counter`s of seconds are kept by
//! [`Seconds`]. A worker's series also have the labels `model` and `group`, a coordinator's `model`.

mod buckets;

use std::sync::Arc;

use crate::labels::{
    Api, Block, Call, Commit, Election, EpochEnd, Exchange, Expert, Fenced, Finish, Group,
    GrpcCode, HttpCode, Kind, Layer, LeadPhase, Level, Lookup, Outcome, Pool, Preemption,
    ProcessKind, Rank, Registration, Rejection, Replay, Route, Rustc, Seat, Serving, Start,
    StepPhase, StoreOp, StoreOutcome, Stream, TextWork, Transport, Verb, Version, Wait,
    WorkerState,
};
use crate::scope::Scope;
use crate::series::{Counter, Entry, Family, Gauge, Histogram, Make, Seconds};
use buckets::{
    CHANGE_SECONDS, EXCHANGE_SECONDS, IMBALANCE, LAG_SECONDS, REQUEST_SECONDS, ROWS, SEQUENCES,
    STEP_SECONDS, STORE_SECONDS, TEXT_SECONDS, TOKEN_COUNTS, TOKEN_SECONDS, TTFT_SECONDS,
    WAIT_SECONDS,
};

/// Metrics of one process.
pub(crate) trait Set: Send + Sync + 'static {
    fn make(scope: &Arc<Scope>) -> Self;

    /// Returns all of them, in the table's order.
    fn families(&self) -> Vec<&dyn Family>;
}

/// Makes a struct with a field for each line.
macro_rules! table {
    (
        $(#[$about:meta])*
        $set:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $kind:ident<$labels:ty> = $name:literal in $unit:literal
                    $(by $buckets:ident)?;
            )+
        }
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $set {
            $(
                $(#[doc = $meaning])+
                pub $field: $kind<$labels>,
            )+
        }

        impl Set for $set {
            fn make(scope: &Arc<Scope>) -> Self {
                Self {
                    $($field: {
                        static ENTRY: Entry = Entry {
                            name: $name,
                            unit: $unit,
                            meaning: concat!($($meaning),+),
                            buckets: table!(buckets $($buckets)?),
                        };
                        Make::make(scope, &ENTRY)
                    },)+
                }
            }

            fn families(&self) -> Vec<&dyn Family> {
                vec![$(&self.$field),+]
            }
        }
    };
    (buckets) => { &[] };
    (buckets $buckets:ident) => { $buckets };
}

table! {
    /// What every process shows.
    Process {
        /// 1; its labels say what runs.
        build_info: Gauge<(ProcessKind, (Version, (Commit, Rustc)))> = "conclave_build_info" in "1";
        /// 1 for what the process is doing, 0 for all else.
        serving_state: Gauge<Serving> = "conclave_serving_state" in "1";
        /// How long each phase of the start took, or has taken so far.
        startup: Gauge<Start> = "conclave_startup_seconds" in "seconds";
        /// 1 while the membership store answers.
        store_up: Gauge<()> = "conclave_store_up" in "1";
        /// One request to one endpoint of the membership store, however it ended.
        store_requests: Histogram<(StoreOp, StoreOutcome)> =
            "conclave_store_request_duration_seconds" in "seconds" by STORE_SECONDS;
        /// How long the process's lease in the membership store lasts yet, unrenewed; 0 without one.
        store_lease: Gauge<()> = "conclave_store_lease_remaining_seconds" in "seconds";
        /// Watches of the membership store that broke, and went on or began again.
        store_watch_restarts: Counter<()> = "conclave_store_watch_restarts_total" in "restarts";
        /// How much later than it was due a task ran, of one that is due every 100 ms.
        event_loop_lag: Histogram<()> = "conclave_event_loop_lag_seconds" in "seconds" by LAG_SECONDS;
        /// How long the threads of the runtime were busy, all together; ranks have threads of their own.
        tokio_busy: Seconds<()> = "conclave_tokio_busy_seconds_total" in "seconds";
        /// Threads of the runtime, without those for work that blocks.
        tokio_threads: Gauge<()> = "conclave_tokio_threads" in "threads";
        /// Tasks of the runtime that have not ended.
        tokio_tasks: Gauge<()> = "conclave_tokio_tasks" in "tasks";
        /// Tasks that wait for any of the runtime's threads.
        tokio_queue: Gauge<()> = "conclave_tokio_queue_tasks" in "tasks";
        /// Lines of the log that were written.
        log_events: Counter<Level> = "conclave_log_events_total" in "lines";
        /// Time of all processors, in the program and in the system for it.
        cpu: Seconds<()> = "process_cpu_seconds_total" in "seconds";
        /// Memory that is in use and in the machine.
        resident_memory: Gauge<()> = "process_resident_memory_bytes" in "bytes";
        /// Address space in use.
        virtual_memory: Gauge<()> = "process_virtual_memory_bytes" in "bytes";
        /// Files and sockets that are open.
        open_fds: Gauge<()> = "process_open_fds" in "files";
        /// Files and sockets that may be open at a time.
        max_fds: Gauge<()> = "process_max_fds" in "files";
        /// When the process started, since 1970.
        start_time: Gauge<()> = "process_start_time_seconds" in "seconds";
    }
}

table! {
    /// What a worker shows.
    Worker {
        /// The term of the lead that is obeyed.
        term: Gauge<()> = "conclave_term" in "terms";
        /// The epoch that is prepared or runs; its numbers begin anew with each term.
        epoch: Gauge<()> = "conclave_epoch" in "epochs";
        /// Attempts to register with the lead; one that is accepted may last for days.
        registrations: Counter<Registration> = "conclave_registrations_total" in "attempts";
        /// Messages that were refused because they are of another term or epoch.
        stale_messages: Counter<Fenced> = "conclave_stale_epoch_messages_total" in "messages";
        /// Steps that a rank has completed its part of. A rank that computes stands still in none.
        steps: Counter<(Seat, Kind)> = "conclave_steps_total" in "steps";
        /// When a rank last completed its part of a step, since 1970; 0 before the first.
        step_completed: Gauge<Seat> = "conclave_step_last_completed_timestamp_seconds" in "seconds";
        /// From the arrival of a step at the worker to its answer, which waits for all its ranks.
        step_duration: Histogram<Kind> = "conclave_step_duration_seconds" in "seconds" by STEP_SECONDS;
        /// How long a rank was in each phase of the steps that it completed.
        step_phases: Seconds<(Seat, StepPhase)> = "conclave_step_phase_seconds_total" in "seconds";
        /// One exchange of one layer: sending, and waiting for all other ranks.
        exchange: Histogram<(Seat, Exchange)> = "conclave_ep_all_to_all_seconds" in "seconds"
            by EXCHANGE_SECONDS;
        /// What a rank has sent to the others in exchanges.
        exchange_bytes: Counter<(Seat, (Exchange, Transport))> = "conclave_ep_all_to_all_bytes_total"
            in "bytes";
        /// How long a rank has waited for others in exchanges: the one that waits least is the slowest.
        straggler_wait: Seconds<Seat> = "conclave_ep_straggler_wait_seconds_total" in "seconds";
        /// Rows that came to a rank's experts, its own among them, in all layers.
        rank_tokens: Counter<Seat> = "conclave_ep_rank_tokens_total" in "rows";
        /// Rows that an expert of a worker's ranks was given, for `rate()` by layer. A series for each of the
        /// model's experts, and so shown with `--expert-metrics` alone.
        expert_tokens: Counter<(Layer, Expert)> = "conclave_ep_expert_tokens_total" in "rows";
        /// Experts that a rank holds, over all layers.
        experts_hosted: Gauge<Seat> = "conclave_ep_experts_hosted" in "experts";
        /// How much of the weights is in memory: 1 when all of it is.
        load_progress: Gauge<()> = "conclave_model_load_progress_ratio" in "ratio";
        /// Bytes of weights that were loaded since the process started.
        load_bytes: Counter<()> = "conclave_model_load_bytes_total" in "bytes";
    }
}

table! {
    /// What a coordinator shows.
    Coordinator {
        /// Requests of the HTTP API that were answered, by the status the answer began with.
        http_requests: Counter<(Route, (Verb, HttpCode))> = "conclave_http_requests_total"
            in "requests";
        /// Calls of the gRPC API that have ended.
        grpc_requests: Counter<(Call, GrpcCode)> = "conclave_grpc_requests_total" in "calls";
        /// Generations that were asked for and have ended; an HTTP request may ask for several, and a call that is
        /// repeated asks again.
        requests: Counter<(Api, (Outcome, Finish))> = "conclave_requests_total" in "generations";
        /// Generations that were not taken, or given back, through no fault of the request.
        rejections: Counter<Rejection> = "conclave_request_rejections_total" in "generations";
        /// Generations that this front follows.
        in_flight: Gauge<Api> = "conclave_requests_in_flight" in "generations";
        /// From the arrival of a request to its end, of generations that ended well. This and all else that is
        /// known at the end counts once: a call that is repeated without `resume_after` leaves it to the first.
        request_duration: Histogram<(Api, Stream)> = "conclave_request_duration_seconds"
            in "seconds" by REQUEST_SECONDS;
        /// From the arrival of a request to its first token.
        time_to_first_token: Histogram<Api> = "conclave_time_to_first_token_seconds"
            in "seconds" by TTFT_SECONDS;
        /// Between two tokens of one generation, as they reach the front.
        inter_token_latency: Histogram<()> = "conclave_inter_token_latency_seconds"
            in "seconds" by TOKEN_SECONDS;
        /// From the first token to the end, for each token after the first.
        time_per_output_token: Histogram<()> = "conclave_time_per_output_token_seconds"
            in "seconds" by TOKEN_SECONDS;
        /// From the arrival of a request to the beginning of its prompt's computation.
        queue_wait: Histogram<()> = "conclave_queue_wait_seconds" in "seconds" by WAIT_SECONDS;
        /// From the beginning of a prompt's computation to the first token.
        prefill: Histogram<()> = "conclave_prefill_seconds" in "seconds" by WAIT_SECONDS;
        /// From the first token to the end.
        decode: Histogram<()> = "conclave_decode_seconds" in "seconds" by REQUEST_SECONDS;
        /// Tokens of prompts, of generations that ended well.
        prompt_tokens: Counter<()> = "conclave_prompt_tokens_total" in "tokens";
        /// Tokens of prompts whose KV the prefix cache held.
        cached_prompt_tokens: Counter<()> = "conclave_cached_prompt_tokens_total" in "tokens";
        /// Tokens that were generated, as they reach the front. A call that is repeated counts those beyond its
        /// `resume_after`, and none where it has not got one.
        generated_tokens: Counter<()> = "conclave_generated_tokens_total" in "tokens";
        /// Tokens among them that a chat's model reasoned with.
        reasoning_tokens: Counter<()> = "conclave_reasoning_tokens_total" in "tokens";
        /// Tokens of a prompt.
        request_prompt_tokens: Histogram<()> = "conclave_request_prompt_tokens" in "tokens"
            by TOKEN_COUNTS;
        /// Tokens of an output.
        request_generated_tokens: Histogram<()> = "conclave_request_generated_tokens" in "tokens"
            by TOKEN_COUNTS;
        /// Work on the text of one request, waiting for a thread to do it included.
        tokenizer: Histogram<TextWork> = "conclave_tokenizer_seconds" in "seconds" by TEXT_SECONDS;
        /// How long generations that had something to tell waited until their clients had read enough.
        stream_backpressure: Seconds<()> = "conclave_stream_backpressure_seconds_total" in "seconds";
        /// Clients that left before the end of what they had asked for.
        client_disconnects: Counter<()> = "conclave_client_disconnects_total" in "clients";
        /// 1 for a group that this coordinator leads. The sum over coordinators is 1.
        leader: Gauge<Group> = "conclave_leader" in "1";
        /// Candidacies that were decided.
        elections: Counter<(Group, Election)> = "conclave_leader_elections_total" in "elections";
        /// The term of the lead.
        term: Gauge<Group> = "conclave_term" in "terms";
        /// The epoch that is prepared or runs; its numbers begin anew with each term.
        epoch: Gauge<Group> = "conclave_epoch" in "epochs";
        /// Epochs that ended.
        epoch_changes: Counter<(Group, EpochEnd)> = "conclave_epoch_changes_total" in "epochs";
        /// From the end of an epoch to the beginning of the next.
        epoch_change: Histogram<Group> = "conclave_epoch_change_seconds" in "seconds"
            by CHANGE_SECONDS;
        /// Ranks that make the group complete.
        ep_size: Gauge<Group> = "conclave_ep_size" in "ranks";
        /// Ranks that a registered worker holds.
        ep_ranks_ready: Gauge<Group> = "conclave_ep_ranks_ready" in "ranks";
        /// Experts of a layer that nobody holds, as their ranks are lost: while there are any, nothing is computed.
        missing_experts: Gauge<Group> = "conclave_ep_missing_experts" in "experts";
        /// 1 for how the worker of a rank is, 0 for all else.
        worker_state: Gauge<(Group, (Rank, WorkerState))> = "conclave_worker_state" in "1";
        /// Generations that wait to be computed, all under what the first of them waits for.
        waiting: Gauge<(Group, Wait)> = "conclave_requests_waiting" in "generations";
        /// Generations that are computed.
        running: Gauge<Group> = "conclave_requests_running" in "generations";
        /// Generations that ran and wait again: their KV's blocks went to others, or their epoch ended.
        preemptions: Counter<(Group, Preemption)> = "conclave_preemptions_total" in "generations";
        /// Generations that went on after a fault from what was known of them.
        replayed: Counter<(Group, Replay)> = "conclave_requests_replayed_total" in "generations";
        /// From the sending of a step to the answer of the last rank.
        step_duration: Histogram<(Group, Kind)> = "conclave_step_duration_seconds" in "seconds"
            by STEP_SECONDS;
        /// How long the lead worked on steps.
        step_phases: Seconds<(Group, LeadPhase)> = "conclave_step_phase_seconds_total" in "seconds";
        /// Rows of experts of the busiest rank by those of the mean rank, of all layers of a step; 1 is even.
        load_imbalance: Histogram<(Group, Kind)> = "conclave_ep_load_imbalance_ratio" in "ratio"
            by IMBALANCE;
        /// Rows of experts of a layer's busiest rank by those of its mean rank, over the last steps, which count
        /// ever less: each by a twentieth of what it is new.
        layer_load_imbalance: Gauge<(Group, Layer)> = "conclave_ep_layer_load_imbalance_ratio" in "ratio";
        /// Generations in a step.
        batch_sequences: Histogram<(Group, Kind)> = "conclave_batch_sequences" in "generations"
            by SEQUENCES;
        /// Rows in a step, of all ranks.
        batch_tokens: Histogram<(Group, Kind)> = "conclave_batch_tokens" in "rows" by ROWS;
        /// Blocks of KV.
        kv_blocks: Gauge<(Group, (Rank, (Pool, Block)))> = "conclave_kv_blocks" in "blocks";
        /// How much of a rank's KV is in use, of the fuller pool.
        kv_usage: Gauge<(Group, Rank)> = "conclave_kv_usage_ratio" in "ratio";
        /// Tokens of prompts as they begin to be computed.
        prefix_cache: Counter<(Group, Lookup)> = "conclave_prefix_cache_tokens_total" in "tokens";
    }
}
