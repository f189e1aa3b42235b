<?php

namespace Acme;

final class Word
{
    public const GREETING = 'Ahoy from a package';
}
