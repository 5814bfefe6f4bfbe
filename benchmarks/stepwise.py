"""What sampling and extraction are compared with: the loop over torch.nn.LSTM that a user would write."""

import torch

from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary

V, SEQUENCES, LENGTH = 96, 200, 500


def random_model(hidden, layers):
    """A one-hot LSTM with weights that keep its text varied, and the same model as a torch.nn.LSTM."""
    torch.manual_seed(0)
    architecture = Architecture(hidden=hidden, layers=layers)
    model = CharacterModel(architecture, V).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=hidden**-0.5)
    theirs = torch.nn.LSTM(V, hidden, layers)
    theirs.load_state_dict(model.rnn.state_dict())
    vocabulary = Vocabulary(("\n", *map(chr, range(32, 32 + V - 1))))
    return TrainedModel(model, vocabulary, "", {}, {}), theirs


def graphed_loop(model, lstm, choose, sequences, length):
    """The same loop on a GPU with its step recorded in a CUDA graph; returns a function that runs it.

    Args:
        choose: draws the next characters from the top layer's states [1, B, H]; its random numbers are the graph's own.
    """
    where = {"device": model.output.weight.device, "dtype": model.output.weight.dtype}
    shape = (lstm.num_layers, sequences, lstm.hidden_size)
    h, c, y = torch.zeros(shape, **where), torch.zeros(shape, **where), torch.zeros(1, *shape[1:], **where)
    kept = torch.empty(2, length, *shape, dtype=torch.float16, device=where["device"])
    place = torch.zeros(1, dtype=torch.int64, device=where["device"])
    one_hot = torch.eye(V, **where)

    def step():
        y_new, (h_new, c_new) = lstm(one_hot[choose(y)][None], (h, c))
        for old, new in ((y, y_new), (h, h_new), (c, c_new)):
            old.copy_(new)
        for states, new in zip(kept, (h_new, c_new), strict=True):
            states.index_copy_(0, place, new.half()[None])
        place.add_(1).remainder_(length)

    stream = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        step()

    def run():
        for _ in range(length):
            graph.replay()
        torch.cuda.synchronize()

    return run


def loop(model, lstm, choose, length=LENGTH):
    """Step all sequences side by side; keep h and c of every step in float16, [T, L, B, H]."""
    shape = (lstm.num_layers, SEQUENCES, lstm.hidden_size)
    h, c = torch.zeros(shape), torch.zeros(shape)
    kept_h, kept_c = (torch.empty(length, *shape, dtype=torch.float16) for _ in range(2))
    one_hot = torch.eye(V)
    tokens = torch.zeros(SEQUENCES, dtype=torch.int64)
    text = torch.empty(length, SEQUENCES, dtype=torch.int64)
    with torch.inference_mode():
        y, (h, c) = lstm(one_hot[tokens][None], (h, c))  # the newline before each sequence
        for step in range(length):
            tokens = choose(step, y)
            text[step] = tokens
            y, (h, c) = lstm(one_hot[tokens][None], (h, c))
            kept_h[step], kept_c[step] = h, c
    return text, kept_h, kept_c
