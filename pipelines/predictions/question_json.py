"""Answers by the id of their question, as run_qa of transformers writes them.

`predict_predictions.json` (and `eval_...`) is {id: text}, `..._nbest_predictions.json` is {id: [{"text",
"probability", ...}, ...]}, best first: `postprocess_qa_predictions` in examples/pytorch/question-answering/
utils_qa.py, alike in transformers 4 and 5. The official SQuAD scripts read the first.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError
from pipelines.predictions.outputs import Outputs

# The scores that the example scripts write: eval_results.json, predict_results.json, all_results.json.
WHOLE = ("eval_", "predict_", "train_", "test_", "epoch")


def is_answers(value: Any) -> bool:
    """Return whether a JSON value has an answer, or a list of answers, for each id."""
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(one, str | int | float) or _is_nbest(one) for one in value.values())


def read(value: dict[str, Any], where: str) -> Outputs:
    """Return the answers; of several, the first.

    Raises:
        UserError: an answer is no text, or the file holds the scores of a run.
    """
    found = list(value.values())
    whole = [
        name for name, one in value.items() if name.startswith(WHOLE) and not isinstance(one, str | list)
    ]
    if whole:
        what = f"holds scores of whole runs, such as {whole[0]}, and nothing of an example"
        raise UserError(where, what, accepted="give the file with a prediction for each example")
    if not any(isinstance(one, str | list) for one in found):
        return Outputs(
            where=where,
            layout="a number by id",
            count=len(found),
            ids=tuple(value),
            no_predictions="it holds numbers and no texts (null_odds.json of run_qa is such a file)",
            scores={"value": found},
        )
    texts = [one[0].get("text") if isinstance(one, list) else one for one in found]
    wrong = [(name, text) for name, text in zip(value, texts) if not isinstance(text, str)]
    if wrong:
        raise UserError(f"{where}, id {wrong[0][0]}", "has no text as its answer", wrong[0][1])
    layout = "answers by id" + (", the first of each" if _is_nbest(found[0]) else "")
    return Outputs(where=where, layout=layout, count=len(texts), ids=tuple(value), predictions=texts)


def _is_nbest(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "text" in value[0]
