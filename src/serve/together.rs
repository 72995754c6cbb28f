//! Answers that are worked out once for all who wait for them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// An answer for many who ask together: one works it out at a time, and whoever asked before that began
/// gets the same.
#[derive(Default)]
pub(super) struct Together<T> {
    /// How many have asked.
    asked: AtomicU64,
    last: Mutex<Last<T>>,
}

/// The last answer, as long as somebody waits for it.
struct Last<T> {
    /// How many had asked when it was begun: it is theirs.
    asked: u64,
    answer: Option<T>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            asked: 0,
            answer: None,
        }
    }
}

impl<T: Clone> Together<T> {
    /// The answer of `work`, or of somebody else's that began after this question.
    pub(super) async fn ask(&self, work: impl AsyncFnOnce() -> T) -> T {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some(answer) = last.answer.as_ref().filter(|_| before < last.asked) {
            return answer.clone();
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let answer = work().await;
        // Nobody else may take it: then it is not kept.
        let is_wanted = asked > before + 1;
        *last = Last {
            asked,
            answer: is_wanted.then(|| answer.clone()),
        };
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers with how often it was worked out; each time waits for a permit.
    struct Slow {
        together: Together<u64>,
        begun: AtomicU64,
        doors: Semaphore,
    }

    impl Slow {
        async fn ask(&self) -> u64 {
            let work = async || {
                let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                self.doors.acquire().await.unwrap().forget();
                number
            };
            self.together.ask(work).await
        }
    }

    #[tokio::test]
    async fn three_hundred_who_ask_at_once_are_answered_by_two_works() {
        let slow = Arc::new(Slow {
            together: Together::default(),
            begun: AtomicU64::new(0),
            doors: Semaphore::new(0),
        });
        let asking: Vec<_> = (0..300)
            .map(|_| {
                let slow = Arc::clone(&slow);
                tokio::spawn(async move { slow.ask().await })
            })
            .collect();
        while slow.together.asked.load(Ordering::SeqCst) < 300 {
            tokio::task::yield_now().await;
        }
        slow.doors.add_permits(2);
        let answers: Vec<u64> = join_all(asking)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        // The first had begun before the others asked.
        assert_eq!(answers[0], 1);
        assert!(
            answers[1..].iter().all(|answer| *answer == 2),
            "{answers:?}"
        );
    }

    #[tokio::test]
    async fn who_asks_later_is_not_given_what_was_known_before() {
        let slow = Slow {
            together: Together::default(),
            begun: AtomicU64::new(0),
            doors: Semaphore::new(2),
        };
        assert_eq!((slow.ask().await, slow.ask().await), (1, 2));
    }
}
