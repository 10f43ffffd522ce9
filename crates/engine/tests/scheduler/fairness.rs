//! Who is admitted when there is not room for all.

use crate::world::{World, request, roomy, text};

/// The order in which sequences were first admitted.
fn admissions(world: &mut World) -> Vec<u64> {
    let mut order = Vec::new();
    while world.engine.has_work() {
        if let Some(step) = world.plan() {
            let opened: Vec<_> = step.parts[0].opens.iter().map(|o| o.sequence.0).collect();
            order.extend(opened);
        }
        if world.engine.num_in_flight() == 2 || world.engine.num_running() == 0 {
            world.complete(false);
        }
        while world.engine.num_in_flight() > 0 {
            world.complete(false);
        }
    }
    order
}

fn two_slots() -> World {
    let mut config = roomy();
    config.kv.num_slots = 2;
    World::new(config, 1000, 1)
}

#[test]
fn principals_take_turns_and_within_one_the_first_comes_first() {
    let mut world = two_slots();
    for id in 1..=6 {
        world
            .submit(request(u64::from(id), text(id, 20), 4))
            .unwrap();
    }
    for id in 7..=8 {
        let mut late = request(u64::from(id), text(id, 20), 4);
        late.principal = 1;
        world.submit(late).unwrap();
    }
    assert_eq!(admissions(&mut world), [1, 7, 2, 8, 3, 4, 5, 6]);
}

#[test]
fn what_was_accepted_elsewhere_comes_before_all_that_are_new() {
    let mut world = two_slots();
    for id in 1..=6 {
        let mut submit = request(u64::from(id), text(id, 20), 4);
        submit.was_accepted = id > 3;
        submit.priority = i32::from(id == 6);
        world.submit(submit).unwrap();
    }
    // Also where nobody new is let in.
    world.engine.pause_admission(true);
    let mut late = request(7, text(7, 20), 4);
    late.was_accepted = true;
    world.submit(late).unwrap();
    // What has output ran there: it comes before all that only waited, whatever their priority.
    let mut ran = request(8, text(8, 20), 4);
    ran.was_accepted = true;
    ran.priority = -1;
    let (output, _) = world.undisturbed(&ran);
    ran.tokens.push(output[0]);
    world.submit(ran).unwrap();
    let (step, _) = world.step();
    let first: Vec<_> = step.parts[0].opens.iter().map(|o| o.sequence.0).collect();
    assert_eq!(first, [8, 6]);
    world.engine.pause_admission(false);
    assert_eq!(admissions(&mut world), [4, 5, 7, 1, 2, 3]);
}

#[test]
fn turns_are_counted_in_rows() {
    let mut world = two_slots();
    for id in 1..=3 {
        world
            .submit(request(u64::from(id), text(id, 100), 1))
            .unwrap();
    }
    for id in 4..=9 {
        let mut small = request(u64::from(id), text(id, 20), 1);
        small.principal = 1;
        world.submit(small).unwrap();
    }
    // Five small ones weigh as much as one large.
    assert_eq!(admissions(&mut world), [1, 4, 5, 6, 7, 8, 2, 9, 3]);
}

#[test]
fn output_counts_as_much_as_prompt() {
    let mut world = two_slots();
    for id in 1..=12 {
        let talks = id <= 3;
        let most = if talks { 180 } else { 1 };
        let mut submit = request(u64::from(id), text(id, 20), most);
        submit.principal = u32::from(!talks);
        world.submit(submit).unwrap();
    }
    let order = admissions(&mut world);
    assert_eq!(order, [1, 4, 2, 5, 6, 7, 8, 9, 10, 11, 12, 3]);
}

#[test]
fn silence_earns_no_credit() {
    let mut world = two_slots();
    for id in 1..=20 {
        world
            .submit(request(u64::from(id), text(id, 20), 4))
            .unwrap();
    }
    world.drain();
    // Principal 1 was never there before; it shares from now on and takes back nothing.
    for id in 21..=28 {
        let mut next = request(u64::from(id), text(id, 20), 4);
        next.principal = u32::from(id % 2 == 0);
        world.submit(next).unwrap();
    }
    let order = admissions(&mut world);
    let even = order[..4].iter().filter(|id| *id % 2 == 0).count();
    assert!((1..=3).contains(&even), "{order:?}");
}

#[test]
fn a_large_sequence_is_not_overtaken_for_ever_by_small_ones() {
    let mut config = roomy();
    config.kv.full_blocks = 64;
    let mut world = World::new(config, 1000, 1);
    world.submit(request(1, text(1, 100), 50)).unwrap();
    world.step();
    world.submit(request(2, text(2, 1000), 5)).unwrap();
    let mut small = 3;
    let mut steps = 0;
    while world.output_of(2).is_empty() {
        if world.engine.num_waiting() < 20 {
            let mut submit = request(u64::from(small), text(small, 60), 50);
            submit.principal = 1 + small % 5;
            world.submit(submit).unwrap();
            small += 1;
        }
        world.step();
        steps += 1;
        assert!(steps < 200, "the large one waits for ever");
    }
}

#[test]
fn a_higher_priority_goes_first_within_its_principal() {
    let mut world = two_slots();
    for (id, priority) in [(1, 0), (2, -1), (3, 0), (4, 7), (5, 7), (6, 100)] {
        let mut submit = request(u64::from(id), text(id, 20), 4);
        submit.priority = priority;
        world.submit(submit).unwrap();
    }
    let mut other = request(7, text(7, 20), 4);
    other.principal = 1;
    world.submit(other).unwrap();
    // The other principal has its turn whatever the first thinks of its own.
    assert_eq!(admissions(&mut world), [6, 7, 4, 5, 1, 3, 2]);
}

#[test]
fn a_low_priority_does_not_wait_for_ever() {
    let mut world = two_slots();
    let mut low = request(1, text(1, 20), 1);
    low.priority = -1;
    for id in 2..=4 {
        world
            .submit(request(u64::from(id), text(id, 20), 1))
            .unwrap();
    }
    world.submit(low).unwrap();
    let mut next = 5;
    while world.output_of(1).is_empty() {
        while world.engine.num_waiting() < 4 {
            world
                .submit(request(u64::from(next), text(next, 20), 1))
                .unwrap();
            next += 1;
        }
        world.step();
        assert!(
            u64::from(next) < 2 * engine::PRIORITY_TURNS,
            "it waits for ever"
        );
    }
    assert!(
        u64::from(next) > engine::PRIORITY_TURNS / 4,
        "it was hardly made to wait"
    );
}
