//! Taking the results of a step: the only place where a sequence's committed state moves.

use std::collections::BTreeMap;

use spec::{LineResult, PartResult, Rank, StepNumber};

use super::{Engine, FlightLine, FlightPart};
use crate::outcome::{BadResult, Completed, Event, Finish};
use crate::sequence::{Sequence, wire};

impl Engine {
    /// Takes what all ranks answered to the oldest step in flight.
    ///
    /// Each position of a sequence is emitted once, whatever was void, preempted or moved. A line
    /// that was skipped, or not sampled, leaves its sequence where it was to be planned again.
    ///
    /// # Errors
    ///
    /// [`BadResult`] if the results do not answer the step. Nothing has changed then; the step is
    /// to be treated as failed, see [`Self::void`].
    pub fn complete(
        &mut self,
        number: StepNumber,
        results: Vec<PartResult>,
    ) -> Result<Completed, BadResult> {
        self.check_results(number, &results)?;
        let Some(flight) = self.in_flight.pop_front() else {
            let (step, expected) = (number, None);
            return Err(BadResult::OutOfOrder { step, expected });
        };
        self.settled = number;
        let mut events = Vec::new();
        let mut served = BTreeMap::new();
        for (index, (part, result)) in flight.parts.into_iter().zip(results).enumerate() {
            for (line, result) in part.lines.iter().zip(result.lines) {
                self.report.rows += line.len;
                events.extend(self.settle_line(line, result, &mut served));
            }
            let rank = &mut self.ranks[index];
            rank.closed(&part.closes, number);
            rank.release_leaving(number);
        }
        for (principal, rows) in served {
            self.waiting.charge(principal, rows);
        }
        Ok(Completed {
            events,
            report: std::mem::take(&mut self.report),
        })
    }

    fn check_results(&self, step: StepNumber, results: &[PartResult]) -> Result<(), BadResult> {
        let expected = self.in_flight.front().map(|flight| flight.number);
        let Some(flight) = self.in_flight.front().filter(|f| f.number == step) else {
            return Err(BadResult::OutOfOrder { step, expected });
        };
        if results.len() != flight.parts.len() {
            return Err(BadResult::PartCount {
                got: results.len(),
                expected: flight.parts.len(),
            });
        }
        let ranks = (0..).map(Rank);
        for ((rank, part), result) in ranks.zip(&flight.parts).zip(results) {
            part.check(rank, result)?;
        }
        Ok(())
    }

    /// Commits what a line brought; returns the news of its sequence, if there is any.
    ///
    /// The rows that its principal was given are added to `served`.
    fn settle_line(
        &mut self,
        line: &FlightLine,
        result: LineResult,
        served: &mut BTreeMap<u32, usize>,
    ) -> Option<Event> {
        let current = |sequence: &&mut Sequence| {
            let place = sequence.place.as_ref();
            place.is_some_and(|place| place.attempt == line.attempt)
        };
        let sequence = self.sequences.get_mut(line.sequence).filter(current);
        let Some(sequence) = sequence else {
            self.report.wasted_rows += line.len;
            return None;
        };
        let late = !result.ran || (line.samples && result.tokens.is_empty());
        if late {
            self.attempts += 1;
            self.report.late_lines += 1;
        }
        if !result.ran {
            // Whether a rank applies the tables of a line that it skips is left open.
            let place = sequence.place.as_mut().expect("the line is current");
            place.rewind(line.told_before, self.attempts);
            return None;
        }
        let id = sequence.id;
        let (first_position, num_tokens) = (wire(sequence.tokens.len()), result.tokens.len());
        let tokens = result.tokens.iter().map(|sampled| sampled.token);
        sequence.tokens.extend(tokens);
        if !result.prompt_logprobs.is_empty() {
            sequence.reported = line.start + result.prompt_logprobs.len();
        }
        if num_tokens > 0 {
            self.report.tokens += num_tokens;
            *served.entry(sequence.principal).or_default() += num_tokens;
        }
        let finished = self.commit(line, late);
        let silent = num_tokens == 0 && result.prompt_logprobs.is_empty() && finished.is_none();
        (!silent).then_some(Event {
            sequence: id,
            first_position,
            tokens: result.tokens,
            first_prompt_position: wire(line.start + 1),
            prompt_logprobs: result.prompt_logprobs,
            finished,
        })
    }

    /// Commits the rows of a line that ran: whole blocks are published, window blocks that were
    /// passed released. Returns how the sequence ended, if it did; it is then forgotten.
    fn commit(&mut self, line: &FlightLine, late: bool) -> Option<Finish> {
        let block_size = self.config.kv.block_size;
        let sequence = &mut self.sequences[line.sequence];
        let place = sequence.place.as_mut().expect("the line is current");
        let kv = &mut self.ranks[place.rank].kv;
        debug_assert_eq!(line.start, place.computed, "lines settle in order");
        // Where no token came the last row must be run again, to sample from it.
        let end = line.start + line.len - usize::from(late);
        place.computed = end;
        if late {
            place.rewind(line.told_after, self.attempts);
        } else {
            place.pending -= usize::from(line.samples);
        }
        let branch = place.branch;
        let filled = line.start / block_size..end / block_size;
        if !filled.is_empty() {
            sequence.extend_chain(block_size);
        }
        for index in filled {
            let kept = sequence.keeps_window(index, branch, &self.config);
            let (history, place) = sequence.split();
            let place = place.expect("the line is current");
            kv.publish(&place.table, index, history, kept);
        }
        let (_, place) = sequence.split();
        kv.slide(&mut place.expect("the line is current").table, end);
        let finished = sequence.finish(end)?;
        self.leave_rank(line.sequence);
        self.sequences.remove(line.sequence);
        Some(finished)
    }
}

impl FlightPart {
    /// Checks that a result has the shape of the part.
    fn check(&self, rank: Rank, result: &PartResult) -> Result<(), BadResult> {
        let lines = &self.lines;
        if result.rank != rank {
            return Err(BadResult::WrongRank {
                got: result.rank,
                expected: rank,
            });
        }
        if result.lines.len() != lines.len() {
            return Err(BadResult::LineCount {
                rank,
                got: result.lines.len(),
                expected: lines.len(),
            });
        }
        for (index, (line, result)) in lines.iter().zip(&result.lines).enumerate() {
            let (got, most) = (result.tokens.len(), usize::from(result.ran && line.samples));
            if got > most {
                return Err(BadResult::TokenCount {
                    rank,
                    line: index,
                    got,
                    most,
                });
            }
            let got = result.prompt_logprobs.len();
            let expected = if result.ran { line.logprobs } else { 0 };
            if got != expected {
                return Err(BadResult::LogprobCount {
                    rank,
                    line: index,
                    got,
                    expected,
                });
            }
        }
        Ok(())
    }
}
