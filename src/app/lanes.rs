//! Which streams go side by side, and in which order.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

/// A stream that waits for its turn.
pub(super) struct Waiting<'a, T> {
    /// Its last turn, if it had one.
    pub(super) turn: Option<DateTime<Utc>>,
    /// What its account or tenant is asked for: whoever has the same goes one after the other.
    pub(super) shares: &'a str,
    /// The stream.
    pub(super) stream: T,
}

/// Lanes that share nothing, of streams that share something, each with its place among all. First is
/// whose last turn was the longest ago, in its lane and with its lane, so that none starves behind
/// one that is slow or uses up what they share.
pub(super) fn lanes<T>(mut waiting: Vec<Waiting<'_, T>>) -> Vec<Vec<(usize, T)>> {
    waiting.sort_by_key(|one| one.turn);
    let mut lanes: Vec<Vec<(usize, T)>> = Vec::new();
    let mut known = HashMap::new();
    for (place, one) in waiting.into_iter().enumerate() {
        let lane = *known.entry(one.shares).or_insert(lanes.len());
        match lanes.get_mut(lane) {
            Some(lane) => lane.push((place, one.stream)),
            None => lanes.push(vec![(place, one.stream)]),
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting<'a>(turns: &[(Option<i64>, &'a str)]) -> Vec<Waiting<'a, usize>> {
        let one = |(stream, (turn, shares)): (usize, &(Option<i64>, &'a str))| Waiting {
            turn: turn.and_then(|turn| DateTime::from_timestamp(turn, 0)),
            shares,
            stream,
        };
        turns.iter().enumerate().map(one).collect()
    }

    #[test]
    fn who_waited_longest_begins_and_its_lane_with_it() {
        let turns = [
            (Some(30), "one"),
            (Some(10), "two"),
            (Some(20), "one"),
            (None, "three"),
            (Some(40), "two"),
        ];
        let lanes = lanes(waiting(&turns));
        let expected = [vec![(0, 3)], vec![(1, 1), (4, 4)], vec![(2, 2), (3, 0)]];
        assert_eq!(lanes, expected);
    }

    #[test]
    fn of_equal_turns_the_order_of_the_settings_holds() {
        let turns = [(None, "one"), (None, "two"), (None, "one"), (None, "three")];
        let lanes = lanes(waiting(&turns));
        assert_eq!(lanes, [vec![(0, 0), (2, 2)], vec![(1, 1)], vec![(3, 3)]]);
    }

    proptest! {
        #[test]
        fn each_stream_is_in_the_one_lane_of_what_it_shares(
            turns in prop::collection::vec((prop::option::of(0i64..9), 0usize..5), 0..40)
        ) {
            const SHARED: [&str; 5] = ["a", "b", "c", "d", "e"];
            let turns: Vec<_> = turns.iter().map(|(turn, at)| (*turn, SHARED[*at])).collect();
            let lanes = lanes(waiting(&turns));
            let mut places: Vec<usize> = Vec::new();
            let mut shared: Vec<&str> = Vec::new();
            for lane in &lanes {
                let (_, first) = lane[0];
                shared.push(turns[first].1);
                for pair in lane.windows(2) {
                    prop_assert!(pair[0].0 < pair[1].0);
                }
                for (place, stream) in lane {
                    prop_assert_eq!(turns[*stream].1, turns[first].1);
                    places.push(*place);
                }
            }
            prop_assert!(lanes.windows(2).all(|pair| pair[0][0].0 < pair[1][0].0));
            places.sort_unstable();
            prop_assert_eq!(places, (0..turns.len()).collect::<Vec<_>>());
            let lanes_there_are = shared.len();
            shared.sort_unstable();
            shared.dedup();
            prop_assert_eq!(shared.len(), lanes_there_are);
        }
    }
}
