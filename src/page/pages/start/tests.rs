use super::*;
use crate::{consul::client::ConsulError, documents::DocumentsError};

#[test]
fn the_problem_of_a_token_is_shown_only_to_its_person() {
    let source = ConsulError::Denied("token 1234 lacks counters".to_owned());
    let problem = DocumentsError::Read { below: "weightd/counters/".to_owned(), rule: String::new(), source };
    let gathered = Gathered { problem: Some(problem), ..Gathered::default() };
    assert!(measured(Some(&gathered), true, None).contains("weightd/counters/"));
    let others = measured(Some(&gathered), false, None);
    assert!(others.starts_with("No numbers: ") && !others.contains("1234") && !others.contains("counters"), "{others}");
}
