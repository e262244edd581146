"""`python -m finetune.train`, as `accelerate launch` calls it: the command line of `finetune.training.train`."""

from finetune.training.train import main

if __name__ == "__main__":
    main()
